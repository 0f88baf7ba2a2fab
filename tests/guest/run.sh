#!/bin/sh
# Boots the guest that build.sh made in OUTDIR and dumps it there: dump.py OUTDIR [OPTIONS].
exec python3 "$(dirname "$0")/dump.py" "$@"
