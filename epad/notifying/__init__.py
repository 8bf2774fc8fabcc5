"""Telling a person where they are: one message when an incident begins, one when it is over."""
