"""Serves the live forwarding table of a Linux bridge to snmpd (pass_persist): dot1dBasePortIfIndex,
dot1dTpFdbPort and dot1qTpFdbPort (VLAN 1). Argument: the bridge."""
import json
import os
import subprocess
import sys
import time

BRIDGE = sys.argv[1]
BASE = (1, 3, 6, 1, 2, 1, 17)


def read(path):
    with open(path) as file:
        return file.read().strip()


def table():
    rows = {}
    ports = {}
    for name in os.listdir("/sys/class/net/%s/brif" % BRIDGE):
        number = int(read("/sys/class/net/%s/brport/port_no" % name), 16)
        ports[name] = number
        rows[BASE + (1, 4, 1, 2, number)] = int(read("/sys/class/net/%s/ifindex" % name))
    out = subprocess.run(["bridge", "-j", "fdb", "show", "br", BRIDGE], capture_output=True, check=True).stdout
    for entry in json.loads(out or "[]"):
        if entry.get("ifname") not in ports or entry.get("state") in ("permanent", "static"):
            continue
        mac = tuple(int(part, 16) for part in entry["mac"].split(":"))
        rows[BASE + (4, 3, 1, 2) + mac] = ports[entry["ifname"]]
        rows[BASE + (7, 1, 2, 2, 1, 2, 1) + mac] = ports[entry["ifname"]]
    return sorted(rows.items())


def main():
    rows, at = [], 0
    while True:
        line = sys.stdin.readline()
        if not line:
            return
        word = line.strip()
        if word == "PING":
            print("PONG", flush=True)
            continue
        oid = tuple(int(part) for part in sys.stdin.readline().strip().strip(".").split("."))
        if time.time() - at > 0.2:
            rows, at = table(), time.time()
        if word == "get":
            found = [row for row in rows if row[0] == oid]
        elif word == "getnext":
            found = [row for row in rows if row[0] > oid][:1]
        else:
            sys.stdin.readline()
            print("not-writable", flush=True)
            continue
        if not found:
            print("NONE", flush=True)
            continue
        print("." + ".".join(str(arc) for arc in found[0][0]))
        print("integer")
        print(found[0][1], flush=True)


main()
