"""Between this machine and the Hugging Face Hub: upload, download, cards, the code that travels, checks, errors."""
