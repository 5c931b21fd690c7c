"""The published code's files: checkpoints both ways, data folders to puzzle files. Imports hrm, data and hub."""
