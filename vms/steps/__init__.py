"""The steps that plans are made of, by what they work on."""
