"""A cell: the walls around one subsystem's processes, and the small programs that put them up.

They are started with `python -I -S`, need the standard library only, and import nothing of epad.
"""
