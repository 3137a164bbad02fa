"""Prints the lines for sha256sum -c of a manifest that conc keeps."""
import json, sys
for path, entry in sorted(json.load(open(sys.argv[1])).items()):
    print(entry["sha256"] + "  " + path)
