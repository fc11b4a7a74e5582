# An image with uzima-backup and nothing else: no mongod, no shell script, no setting and no secret. It runs as a user
# without rights. docs/containers.md shows how to run it.
#
#     docker build -t uzima-backup .

FROM rust:1.95-slim-trixie AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs askama.toml crontab.example ./
COPY src src
COPY examples examples
COPY tests/kit tests/kit
RUN cargo build --release --locked --bin uzima-backup

FROM debian:trixie-slim
# The certificates of the authorities that sign those of S3 services, of mail services and of MongoDB Atlas.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --user-group --uid 10001 --home-dir /var/lib/uzima-backup --no-create-home \
        --shell /usr/sbin/nologin uzima-backup \
    && install -d -m 0700 -o 10001 -g 10001 /var/lib/uzima-backup
COPY --from=build /build/target/release/uzima-backup /usr/bin/uzima-backup
# The state: locks, caches, unfinished uploads, and the times of sent mails.
VOLUME /var/lib/uzima-backup
# A number, so that Kubernetes can check that the user is not root.
USER 10001:10001
WORKDIR /var/lib/uzima-backup
ENTRYPOINT ["/usr/bin/uzima-backup"]
CMD ["--help"]
