#!/usr/bin/env python3
"""Writes src/symbols/facts/*.facts: sizes and member offsets of kernel structures, one column a build.

Usage: scripts/make-facts.py DIRECTORY

DIRECTORY holds symbol tables in Volatility-3 ISF JSON (ntkrnlmp-VERSION-GUID-AGE.json.xz) and tables of
offsets without types (layout-VERSION-x64*.json). A build that has a column already keeps it unless DIRECTORY
holds its symbol table: what was published piece by piece (docs/decisions/layouts.md) stays. To make such a
column anew, take it out of the facts first. Run by hand when a build is added; the result is reviewed and
committed. Nothing else in the project needs Python or those files.
"""
import glob, json, lzma, os, re, sys

STRUCTURES = """
_ALPC_COMMUNICATION_INFO _ALPC_PORT _CLIENT_ID _CONTROL_AREA _DEVICE_OBJECT _DEVOBJ_EXTENSION
_DISPATCHER_HEADER _DRIVER_OBJECT _EPROCESS _ERESOURCE _ETHREAD _EWOW64PROCESS _EX_FAST_REF _EX_PUSH_LOCK
_EX_WORK_QUEUE _EX_WORK_QUEUE_MANAGER _EX_PARTITION _ENODE _FAST_MUTEX _FILE_OBJECT _FSRTL_ADVANCED_FCB_HEADER
_HANDLE_TABLE _HANDLE_TABLE_ENTRY _IO_STACK_LOCATION _IO_STATUS_BLOCK _IRP _KALPC_MESSAGE _KAPC _KAPC_STATE
_KDPC _KDPC_DATA _KEVENT _KGATE _KGUARDED_MUTEX _KLDR_DATA_TABLE_ENTRY _KLOCK_ENTRIES _KLOCK_ENTRY
_KLOCK_ENTRY_LOCK_STATE
_KMUTANT _KNODE _KPCR _KPRCB _KPRIQUEUE _KPROCESS _KPROCESSOR_STATE _KQUEUE _KSEMAPHORE _KSPECIAL_REGISTERS
_KSPIN_LOCK_QUEUE _KSTACK_CONTROL _KERNEL_STACK_CONTROL _KERNEL_STACK_SEGMENT _KSYSTEM_TIME _KTHREAD _KTIMER _KTRAP_FRAME
_KUSER_SHARED_DATA _KWAIT_BLOCK _KWAIT_CHAIN _KWAIT_CHAIN_ENTRY _LARGE_INTEGER _LDR_DATA_TABLE_ENTRY
_LIST_ENTRY _MDL _MM_SESSION_SPACE _MMVAD _MMVAD_SHORT _OBJECT_DIRECTORY _OBJECT_DIRECTORY_ENTRY _OBJECT_HEADER
_OBJECT_HEADER_NAME_INFO _OBJECT_HEADER_CREATOR_INFO _OBJECT_NAME_INFORMATION _OBJECT_SYMBOLIC_LINK
_OBJECT_TYPE _OWNER_ENTRY _PEB _PEB_LDR_DATA _PHYSICAL_MEMORY_DESCRIPTOR _PHYSICAL_MEMORY_RUN _PORT_MESSAGE
_RTL_CRITICAL_SECTION _RTL_CRITICAL_SECTION_DEBUG _RTL_BALANCED_NODE _RTL_AVL_TREE _SECTION _SECTION_OBJECT
_SECTION_OBJECT_POINTERS _SEGMENT _SEGMENT_OBJECT _SE_AUDIT_PROCESS_CREATION_INFO _SHARED_CACHE_MAP
_SINGLE_LIST_ENTRY _SLIST_HEADER _STRING _SUBSECTION _TEB _UNICODE_STRING _ULARGE_INTEGER _VACB _VPB
_WORK_QUEUE_ITEM _IO_WORKITEM _RTL_USER_PROCESS_PARAMETERS _EPARTITION _MI_SYSTEM_INFORMATION _POOL_HEADER
_MMSUPPORT _MMSUPPORT_FULL _IO_COMPLETION_CONTEXT _DEFERRED_WRITE _EX_PUSH_LOCK_WAIT_BLOCK _KDPC_LIST
_POOL_TRACKER_TABLE _MI_PARTITION _MI_VISIBLE_PARTITION _CC_PARTITION _MMINPAGE_SUPPORT
""".split()
ENUMS = "_KWAIT_REASON _KTHREAD_STATE _KOBJECTS _KWAIT_BLOCK_STATE _KWAIT_STATE _MODE".split()
# Documented structures (wdm.h): the same in every build, also where a table of offsets does not list them.
CONTRACTS = {"_IO_STATUS_BLOCK"}
# Members of a few huge structures that nothing of ours will ever need.
SKIP = {
    "_MI_SYSTEM_INFORMATION": lambda n: not n.startswith("Hardware.InvalidPteMask"),
    "_MI_PARTITION": lambda n: n != "Vp",
    "_MI_VISIBLE_PARTITION": lambda n: n not in (
        "AvailablePages ResidentAvailablePages NumberOfPhysicalPages TotalCommittedPages TotalCommitLimit".split()),
    "_CC_PARTITION": lambda n: n not in "DeferredWrites DirtyPageStatistics DirtyPageThresholds".split(),
}


def base_text(name, base):
    if base["kind"] == "void" or name == "void":
        return "Void"
    if base["kind"] == "float":
        return "Float%d" % base["size"]
    if base["kind"] == "char":
        return "Char"
    return "%s%dB" % ("Int" if base.get("signed") else "Uint", base["size"])


class Isf:
    def __init__(self, path):
        self.j = json.load(lzma.open(path))
        self.build = os.path.basename(path).split("-")[1]
        self.types, self.enums, self.base = self.j["user_types"], self.j["enums"], self.j["base_types"]

    @staticmethod
    def unnamed(t):
        """PDBs call them <unnamed-tag>; tools that made the tables __unnamed_1a2 or __anonymous_1a2."""
        return "unnamed" in t.get("name", "") or "anonymous" in t.get("name", "")

    def size(self, t):
        k = t["kind"]
        if k == "base": return self.base[t["name"]]["size"]
        if k == "pointer": return 8
        if k == "array": return t["count"] * self.size(t["subtype"])
        if k in ("struct", "union", "class"): return self.types.get(t["name"], {"size": 0})["size"]
        if k == "enum": return self.enums[t["name"]]["size"]
        if k == "bitfield": return self.size(t["type"])
        return 0

    def text(self, t):
        k = t["kind"]
        if k == "base": return base_text(t["name"], self.base[t["name"]])
        if k == "pointer":
            s = t["subtype"]
            return "Ptr64 " + ("Void" if s["kind"] == "function" or self.unnamed(s) else self.text(s))
        if k == "array":
            if self.unnamed(t["subtype"]): return "[%d] Uint1B" % self.size(t)
            return "[%d] %s" % (t["count"], self.text(t["subtype"]))
        if k in ("struct", "union", "class"): return t["name"]
        if k == "enum": return "enum " + t["name"]
        return "?"

    def members(self, name, prefix="", base=0):
        """(dotted name, type text, offset), unnamed structures flattened."""
        out = []
        for n, f in self.types[name]["fields"].items():
            t, o = f["type"], base + f["offset"]
            if t["kind"] == "bitfield":
                out.append((prefix + n, "%s bits %d %d" % (self.text(t["type"]), t["bit_position"], t["bit_length"]), o))
            elif t["kind"] in ("struct", "union") and self.unnamed(t) and t["name"] in self.types:
                out.append((prefix + n, "[%d] Uint1B" % self.size(t), o))
                out += self.members(t["name"], prefix + n + ".", o)
            else:
                out.append((prefix + n, self.text(t), o))
        return out

    def table(self, name):
        if name not in self.types: return None
        return self.types[name]["size"], False, {n: (t, o) for n, t, o in self.members(name)}


class Plain:
    """Offsets without types. Bit-fields have a length only, so their order comes from a neighbour build."""

    def __init__(self, path):
        self.j = json.load(open(path))
        self.partial = "types" not in self.j
        self.build = re.match(r"layout-([0-9.]+)-x64", os.path.basename(path)).group(1)
        self.types, self.partial_types = {}, set()
        if self.partial:
            for t, members in self.j.items():
                if not t.startswith("_K") and not t.startswith("_E") and not t.startswith("_I") and not t.startswith("_F"): continue
                if t.endswith("_tail"): t = t[:-5]
                self.types[t] = (int(self.j["sizes"].get(t, "0"), 16), {k: v for k, v in members.items() if not k.startswith("_")})
            for t, s in self.j["sizes"].items(): self.types.setdefault(t, (int(s, 16), {}))
        else:
            for t, v in self.j["types"].items(): self.types[t] = (int(v["size"], 16), v["members"])
            self.partial_types = {t for t, v in self.j["types"].items() if v.get("partial")}

    def table(self, name, neighbours):
        if name not in self.types: return None
        size, raw = self.types[name]
        names = set(raw)
        members, bits = {}, {}
        for n, v in raw.items():
            v, _, length = v.split(" ")[0].partition(":")
            o = int(v, 16)
            parts = n.split(".")
            leaf = not any(x.startswith(n + ".") for x in names)
            # The published tables count the offset of a nested member's parent twice, one level deep.
            if not self.partial and len(parts) == 2 and leaf and parts[0] in raw: o -= int(raw[parts[0]].split(":")[0], 16)
            if length: bits.setdefault(o, {})[n] = int(length[:-1])
            else: members[n] = ("?", o)
        for near in neighbours:
            if not near: continue
            for n, (t, o) in list(members.items()):
                if t == "?" and n in near[2] and " bits " not in near[2][n][0]: members[n] = (near[2][n][0], o)
            for o, group in list(bits.items()):
                order = sorted((int(near[2][n][0].split()[2]), n) for n in group if n in near[2] and " bits " in near[2][n][0])
                if len(order) != len(group): continue
                at = 0
                for _, n in order:
                    members[n] = ("%s bits %d %d" % (near[2][n][0].split(" bits ")[0], at, group[n]), o)
                    at += group[n]
                del bits[o]
        return size, self.partial or name in self.partial_types, members


class Kept:
    """A column of the facts as they are."""

    def __init__(self, build):
        self.build, self.types = build, {}

    def table(self, name, neighbours=None):
        return self.types.get(name)


def kept_columns(folder):
    columns = {}
    for path in sorted(glob.glob(folder + "/*.facts")):
        lines = open(path).read().split("\n")
        if not lines[0].startswith("type "): continue
        name, builds, sizes = lines[0].split()[1], lines[1].split()[1:], lines[2].split()[1:]
        for i, b in enumerate(builds):
            members = {}
            for line in lines[3:]:
                if not line: continue
                n, t, offsets = line.split(" | ")
                if offsets.split()[i] != "-": members[n] = (t, int(offsets.split()[i], 16))
            column = columns.setdefault(b.rstrip("*"), Kept(b.rstrip("*")))
            column.types[name] = int(sizes[i], 16), b.endswith("*"), members
    return columns


def main():
    if len(sys.argv) != 2 or not glob.glob(sys.argv[1] + "/ntkrnlmp-*.json.xz"): sys.exit(__doc__)
    here, directory = os.path.dirname(os.path.abspath(__file__)), sys.argv[1]
    out = os.path.join(here, "../src/symbols/facts")
    isfs = [Isf(p) for p in sorted(glob.glob(directory + "/ntkrnlmp-*.json.xz"))]
    kept = kept_columns(out)
    for b in isfs: kept.pop(b.build, None)
    plains = [Plain(p) for p in sorted(glob.glob(directory + "/layout-*.json"))]
    plains = [p for p in plains if p.build not in kept] + list(kept.values())
    key = lambda b: [int(x) for x in b.build.split(".")]
    builds = sorted(isfs + plains, key=key)
    number = {b.build: key(b)[2] for b in builds}
    for f in glob.glob(out + "/*.facts"): os.remove(f)
    for name in sorted(set(STRUCTURES)):
        tables = {b.build: b.table(name) for b in isfs}
        for p in plains:
            near = sorted(isfs, key=lambda b: abs(number[b.build] - number[p.build]))
            tables[p.build] = p.table(name, [tables[b.build] for b in near])
            if name in CONTRACTS and not isinstance(p, Kept): tables[p.build] = tables[near[0].build]
        used = [b.build for b in builds if tables[b.build]]
        if not used: continue
        rows, order = {}, []
        for i, b in enumerate(used):
            for n, (t, o) in tables[b][2].items():
                if name in SKIP and SKIP[name](n): continue
                if (n, t) not in rows:
                    rows[(n, t)] = ["-"] * len(used)
                rows[(n, t)][i] = "%x" % o
        first = lambda r: next(int(x, 16) for x in reversed(r) if x != "-")
        order = sorted(rows, key=lambda k: (first(rows[k]), k[0]))
        with open(os.path.join(out, name + ".facts"), "w") as f:
            f.write("type %s\n" % name)
            f.write("builds %s\n" % " ".join(b + ("*" if tables[b][1] else "") for b in used))
            f.write("size %s\n" % " ".join("%x" % tables[b][0] for b in used))
            for k in order: f.write("%s | %s | %s\n" % (k[0], k[1], " ".join(rows[k])))
    for name in ENUMS:
        used = [b for b in builds if isinstance(b, Isf) and name in b.enums]
        rows = {}
        for i, b in enumerate(used):
            for n, v in b.enums[name]["constants"].items(): rows.setdefault(n, ["-"] * len(used))[i] = str(v)
        order = sorted(rows, key=lambda n: (next(int(x) for x in reversed(rows[n]) if x != "-"), n))
        with open(os.path.join(out, name + ".facts"), "w") as f:
            f.write("enum %s\nbuilds %s\nsize %s\n" % (name, " ".join(b.build for b in used), " ".join("%x" % b.enums[name]["size"] for b in used)))
            for n in order: f.write("%s | | %s\n" % (n, " ".join(rows[n])))


main()
