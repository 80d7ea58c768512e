"""How the built-in model is made and how quality and speed are measured."""
