#!/usr/bin/env bash
# Runs a class of Kafka with the options that its own scripts take. The class path is spelt out and sorted: the cache of
# loaded classes fits no other.
set -euo pipefail
jars=$(printf '%s:' /opt/kafka/libs/*.jar)
cache=
[ ! -f /opt/kafka/classes.aot ] || cache=-XX:AOTCache=/opt/kafka/classes.aot
# shellcheck disable=SC2086 # options are words
exec /opt/java/openjdk/bin/java ${KAFKA_HEAP_OPTS:-} ${KAFKA_JVM_PERFORMANCE_OPTS:-} ${KAFKA_LOG4J_OPTS:-} $cache \
    ${KAFKA_OPTS:-} -cp "${jars%:}" "$@"
