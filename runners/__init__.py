"""Programs run as children: they speak to epad as any process would, and run without it just as well."""
