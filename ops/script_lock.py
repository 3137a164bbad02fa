"""Prints the record of a lock: TOKEN NODE DEPLOY.INI."""
import json, os, socket, getpass, sys, time
print(json.dumps({"token": sys.argv[1], "user": getpass.getuser(), "host": socket.gethostname(), "pid": os.getppid(),
  "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "node": sys.argv[2], "deploy": sys.argv[3], "message": "a script of conc plan"}, indent=2))
