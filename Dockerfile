# pgreserve with nothing else in it, as a user without rights.  The shipped configuration listens on 127.0.0.1,
# so run it with the host's network (docker-compose.yml does), or with a configuration of your own:
#     docker run -v ./my.ini:/etc/pgreserve.ini:ro IMAGE run -c /etc/pgreserve.ini
FROM debian:12-slim AS build
WORKDIR /source
COPY scripts/install_dependencies.sh scripts/
RUN apt-get update && apt-get install -y --no-install-recommends make \
    && scripts/install_dependencies.sh build
COPY . .
RUN make -j"$(nproc)" && make install DESTDIR=/installed PREFIX=/usr

FROM debian:12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libevent-2.1-7 libevent-openssl-2.1-7 \
       libinih1 libjansson4 libpq5 libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home --home-dir /nonexistent pgreserve
COPY --from=build /installed/usr/bin/pgreserve /usr/bin/pgreserve
USER pgreserve
STOPSIGNAL SIGTERM
# 0 healthy, 1 high load, 2 exhausted or upstream down: alive all of them, and a restart would mend none.
HEALTHCHECK --interval=10s --timeout=5s CMD pgreserve status >/dev/null || [ $? -lt 3 ]
ENTRYPOINT ["pgreserve"]
CMD ["run"]
