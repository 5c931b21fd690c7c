"""The files of the published code: checkpoints and data folders, both ways. Imports hrm and data."""
