"""What the commands do: the scripts in convert/ and examples/ call them. Imports every room."""
