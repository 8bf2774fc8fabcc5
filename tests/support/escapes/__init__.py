"""Small programs that try to get out of a cell: each one's exit says if it did. Standard library only.

They are copied into a cell's workspace and run there by the system's Python; run outside they show what they would get.
"""
