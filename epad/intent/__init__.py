"""Tell what turns are for: a child with a classifier, a queue beside the gateway, and its labels on the record."""
