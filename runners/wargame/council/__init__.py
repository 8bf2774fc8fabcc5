"""Three analysts over one finding, and proof that none of their citations was lost."""
