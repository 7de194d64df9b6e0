"""The commands of `jaxep`, a file each: a function of its name takes the words after it."""
