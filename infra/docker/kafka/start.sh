#!/usr/bin/env bash
# The broker of a region in a container: in the image apache/kafka, or in one that has the same paths (`make images`).
#
# An empty volume is formatted under a new random cluster id: a region that was wiped begins a new life, and must not be
# taken for its old one. A life that is over is put aside when the region asks for it (renew.json, written by its
# preparing step once peers hold what is genuine): the broker stops, its log and what hung on it go, and it starts anew.
#
#   MERIDIAN_SITE            the region, under whose name it is reached
#   MERIDIAN_KAFKA_PORT      where it listens for the processes of all sites
#   MERIDIAN_KAFKA_QUORUM    where its own controller listens, on loopback
#   MERIDIAN_SITE_DIRECTORY  the region's files (where renew.json appears)
set -euo pipefail

: "${MERIDIAN_SITE:?}" "${MERIDIAN_KAFKA_PORT:?}" "${MERIDIAN_KAFKA_QUORUM:?}" "${MERIDIAN_SITE_DIRECTORY:?}"
kafka=/opt/kafka
volume=/var/lib/kafka/data
properties=$volume/server.properties
wish=$MERIDIAN_SITE_DIRECTORY/renew.json
broker=
ending=

export LOG_DIR=/tmp
export KAFKA_HEAP_OPTS=${KAFKA_HEAP_OPTS:--Xms64m -Xmx256m}
export KAFKA_LOG4J_OPTS=${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=/opt/meridian/log4j2.properties}
java_options="-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true"
# The class cache that apache/kafka ships; ours is named by its own launcher.
[ ! -f $kafka/kafka.jsa ] || java_options="$java_options -XX:SharedArchiveFile=$kafka/kafka.jsa"
export KAFKA_JVM_PERFORMANCE_OPTS=${KAFKA_JVM_PERFORMANCE_OPTS:-$java_options}

say() { echo "kafka $MERIDIAN_SITE: $*" >&2; }

configure() {
    {
        cat /opt/meridian/common.properties
        echo "listeners=PLAINTEXT://0.0.0.0:$MERIDIAN_KAFKA_PORT,CONTROLLER://127.0.0.1:$MERIDIAN_KAFKA_QUORUM"
        echo "advertised.listeners=PLAINTEXT://$MERIDIAN_SITE:$MERIDIAN_KAFKA_PORT,CONTROLLER://127.0.0.1:$MERIDIAN_KAFKA_QUORUM"
        echo "controller.quorum.bootstrap.servers=127.0.0.1:$MERIDIAN_KAFKA_QUORUM"
        echo "log.dirs=$volume/logs"
    } >$properties.new || { say "cannot write to $volume. Likely its disk is full (\`df\`), or the volume belongs to another user."; exit 1; }
    mv $properties.new $properties
}

format_if_empty() {
    [ ! -e $volume/logs/meta.properties ] || return 0
    # A format that was killed leaves nothing but the quorum's own log behind. Anything else is a region's log whose
    # name tag is gone (a damaged disk): it is nobody's to remove.
    local held
    held=$(find $volume/logs -mindepth 1 -maxdepth 1 -type d ! -name '__cluster_metadata-0' 2>/dev/null | head -n 1 || true)
    if [ -n "$held" ]; then
        say "$volume/logs holds a log and no meta.properties. Likely the disk lost it: put it back from a copy, or move $volume/logs away, and the region begins a new life."
        exit 1
    fi
    rm -rf $volume/logs
    local id
    id=$({ printf M; head -c 15 /dev/urandom; } | base64 | tr '+/' '-_' | tr -d '=\n')
    say "the volume is empty: formatted as cluster $id"
    KAFKA_HEAP_OPTS=-Xmx128m $kafka/bin/kafka-storage.sh format -t "$id" -c $properties --standalone >/tmp/format.log 2>&1 || {
        cat /tmp/format.log >&2
        rm -rf $volume/logs
        exit 1
    }
}

# As services/region/renewal.py does it for a broker under our supervisor, in the same order: each step finds what the
# one before has left, wherever it was killed.
begin_anew() {
    [ -e "$wish" ] || return 0
    local life
    life=$(sed -n 's/.*"incarnation": *"\([a-z0-9-]*\)".*/\1/p' "$wish")
    if [ -z "$life" ]; then
        # The preparing step finds the life sealed, and asks again.
        say "$wish names no life and is dropped"
        rm -f "$wish"
        return 0
    fi
    if [ ! -e "$volume/kept.$life" ] && [ -e $volume/logs ]; then
        mv $volume/logs "$volume/kept.$life"
    fi
    rm -rf "$MERIDIAN_SITE_DIRECTORY/snapshots" "$MERIDIAN_SITE_DIRECTORY/replicator"
    say "$life is over; its log is kept in $volume/kept.$life"
    # Formatted before the wish goes: as long as it stands, nothing uses this broker.
    format_if_empty
    rm -f "$wish"
}

begin() {
    configure
    begin_anew
    format_if_empty
    $kafka/bin/kafka-server-start.sh $properties &
    broker=$!
}

end() {
    kill -TERM "$broker" 2>/dev/null || true
    while kill -0 "$broker" 2>/dev/null; do wait "$broker" || true; done
}

trap 'ending=yes' TERM INT
begin
while kill -0 "$broker" 2>/dev/null; do
    if [ -n "$ending" ]; then
        end
        exit 0
    fi
    if [ -e "$wish" ]; then
        say "a life is over: the broker stops"
        end
        begin
    fi
    sleep 0.5 &
    wait $! || true
done
code=0
wait "$broker" || code=$?
say "the broker ended by itself (exit code $code)"
exit "$((code == 0 ? 1 : code))"
