# pgreserve with nothing else in it, as a user without rights.  Everything that matters comes from the environment:
#     docker run -e SUPABASE_URL=postgresql://... -p 127.0.0.1:6432-6435:6432-6435 pgreserve
# Inside its own network a container must listen on every address; -p decides who reaches that.  A configuration of your own:
#     docker run -v ./my.ini:/etc/pgreserve/pgreserve.ini:ro ... pgreserve run -c /etc/pgreserve/pgreserve.ini
ARG BASE=debian:12-slim
FROM ${BASE} AS build
WORKDIR /source
COPY scripts/install_dependencies.sh scripts/
RUN apt-get update && apt-get install -y --no-install-recommends make \
    && scripts/install_dependencies.sh build
COPY . .
RUN make -j"$(nproc)" && make install DESTDIR=/installed PREFIX=/usr && strip /installed/usr/bin/pgreserve

FROM ${BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libevent-2.1-7 libevent-openssl-2.1-7 \
       libinih1 libjansson4 libpq5 libssl3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
    && useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pgreserve
COPY --from=build /installed/usr/bin/pgreserve /usr/bin/pgreserve
COPY --from=build /source/LICENSE /usr/share/doc/pgreserve/copyright
ENV PGRESERVE_LISTEN=* PGRESERVE_HTTP_LISTEN=*
EXPOSE 6432 6433 6434 6435
USER pgreserve
STOPSIGNAL SIGTERM
# 0 healthy, 1 high load, 2 exhausted or upstream down: alive all of them, and a restart would mend none.
HEALTHCHECK --interval=10s --timeout=5s CMD pgreserve status >/dev/null || [ $? -lt 3 ]
ENTRYPOINT ["pgreserve"]
CMD ["run"]
