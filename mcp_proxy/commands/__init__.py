"""The commands, one file each; `lazy` knows their names and imports one when it is typed."""
