"""Prints the hash and path of each file below the folder where it is started."""
import hashlib, os, sys
for folder, _, names in os.walk("."):
    for name in names:
        file = os.path.join(folder, name)
        with open(file, "rb") as f:
            print(hashlib.sha256(f.read()).hexdigest() + "  " + os.path.relpath(file))
