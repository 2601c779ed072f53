#!/usr/bin/env bash
# Runs a broker once for the cache of its classes, while the image is built.
set -euo pipefail
export KAFKA_JVM_PERFORMANCE_OPTS="-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true"
export KAFKA_LOG4J_OPTS=-Dlog4j2.configurationFile=/opt/meridian/log4j2.properties
directory=$(mktemp -d)
cat /opt/meridian/common.properties - >"$directory/server.properties" <<END
listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093
advertised.listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093
controller.quorum.bootstrap.servers=127.0.0.1:9093
log.dirs=$directory/logs
END
/opt/kafka/bin/kafka-storage.sh format -t TWVyaWRpYW5DbGFzc0NhYw -c "$directory/server.properties" --standalone
KAFKA_OPTS=-XX:AOTCacheOutput=/opt/kafka/classes.aot /opt/kafka/bin/kafka-server-start.sh "$directory/server.properties" \
    >"$directory/log" 2>&1 &
broker=$!
for _ in $(seq 600); do
    if grep -q 'Kafka Server started' "$directory/log"; then break; fi
    kill -0 $broker || { cat "$directory/log"; exit 1; }
    sleep 0.1
done
kill -TERM $broker
wait $broker || true
rm -rf "$directory"
test -f /opt/kafka/classes.aot
chmod 644 /opt/kafka/classes.aot
