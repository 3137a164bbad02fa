"""Prints the record of a lock: NODE DEPLOY.INI MESSAGE [TOKEN]."""
import json, os, secrets, socket, getpass, sys, time
print(json.dumps({"token": (sys.argv[4:] or [secrets.token_hex(32)])[0], "user": getpass.getuser(), "host": socket.gethostname(), "pid": os.getppid(),
  "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "node": sys.argv[1], "deploy": sys.argv[2], "message": sys.argv[3]}, indent=2))
