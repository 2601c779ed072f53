# Prometheus and Alertmanager from Debian's packages, with the paths of prom/prometheus and prom/alertmanager: for where
# those cannot be pulled.
ARG DEBIAN_IMAGE=debian:bookworm-slim
FROM ${DEBIAN_IMAGE} AS prometheus
RUN apt-get update -q && apt-get install -qy --no-install-recommends prometheus \
    && rm -rf /var/lib/apt/lists/* && install -d -o 65534 -g 65534 /prometheus
USER 65534:65534
WORKDIR /prometheus
ENTRYPOINT ["/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]

FROM ${DEBIAN_IMAGE} AS alertmanager
RUN apt-get update -q && apt-get install -qy --no-install-recommends prometheus-alertmanager \
    && rm -rf /var/lib/apt/lists/* && install -d -o 65534 -g 65534 /alertmanager \
    && ln -s /usr/bin/prometheus-alertmanager /usr/bin/alertmanager
USER 65534:65534
WORKDIR /alertmanager
ENTRYPOINT ["/bin/alertmanager"]
CMD ["--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager"]
