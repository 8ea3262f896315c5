"""The API's frame: who is asking, problems, the routes. What it serves lives in the apps."""
