# Forwards a port that the system chooses to PORT of TARGET, asks there twice, and tells the answers: sh ports.sh TARGET PORT
set -eu
lines=$(mktemp)
kubectl port-forward --address 127.0.0.1 "$1" ":$2" > "$lines" 2>&1 &
pid=$!
trap 'kill $pid; rm -f "$lines"' EXIT
waited=0
until grep -q '^Forwarding' "$lines"; do
  kill -0 $pid 2> /dev/null || { cat "$lines"; exit 1; }
  waited=$((waited + 1))
  [ $waited -lt 300 ] || { cat "$lines"; exit 1; }
  sleep 0.1
done
port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$lines")
for _ in 1 2; do
  curl --silent --show-error --max-time 20 --output /dev/null --write-out '%{http_code}\n' "http://127.0.0.1:$port/"
done
