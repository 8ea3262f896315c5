"""The API's handlers, one module an area. Importing a module registers its routes."""
