#!/usr/bin/env bash
# What apache/kafka's own start script does: KAFKA_LOG_RETENTION_MS=-1 sets log.retention.ms, and so on; an empty log is
# formatted as CLUSTER_ID. Tests start brokers so; the deployment starts them by /opt/meridian/start.sh.
set -euo pipefail
export KAFKA_JVM_PERFORMANCE_OPTS=${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true}
export KAFKA_LOG4J_OPTS=${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=/opt/meridian/log4j2.properties}
properties=/tmp/server.properties
: >$properties
while IFS='=' read -r name value; do
    case $name in
    KAFKA_HEAP_OPTS | KAFKA_OPTS | KAFKA_JVM_PERFORMANCE_OPTS | KAFKA_LOG4J_OPTS) ;;
    KAFKA_*)
        name=${name#KAFKA_}
        name=$(echo "${name,,}" | sed 's/___/-/g; s/__/\x01/g; s/_/./g; s/\x01/_/g')
        echo "$name=$value" >>$properties
        ;;
    esac
done < <(env)
voters=--standalone
! grep -q '^controller.quorum.voters=' $properties || voters=
# shellcheck disable=SC2086 # no voters, no word
/opt/kafka/bin/kafka-storage.sh format --ignore-formatted -t "${CLUSTER_ID:?}" -c $properties $voters
exec /opt/kafka/bin/kafka-server-start.sh $properties
