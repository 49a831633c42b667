# The image of forge for CI jobs: "make image" builds it with forge itself, from a directory with the static binary, the
# certificates of authorities and, for debug, a static busybox.
FROM scratch AS base
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --chmod=0755 forge /usr/local/bin/forge
# kaniko's place and name, and the directory of its logins
COPY --from=links / /
ENV PATH=/usr/local/bin:/kaniko:/busybox HOME=/root USER=root DOCKER_CONFIG=/kaniko/.docker FORGE_ROOT=/var/lib/forge
WORKDIR /root
WORKDIR /tmp
WORKDIR /workspace
ENTRYPOINT ["/usr/local/bin/forge", "executor"]

# With a shell, for runners that start one in the image of a job.
FROM base AS debug
COPY --chmod=0755 busybox /busybox/busybox
RUN ["/busybox/busybox", "--install", "-s", "/busybox"]

FROM base
