"""From a mistake to a row of preference data: the teacher, the export and its gates."""
