# The controller's image: the binary /weir and the filter's module /weir-filter.wasm, and the demonstration's service /weir-demo,
# which manifests/examples/deployment.yaml releases.
#
#   docker build --tag weir:dev .
FROM rust:1-bookworm AS build
RUN rustup target add wasm32-unknown-unknown
WORKDIR /src
COPY . .
RUN filter/build && cargo build --locked --release --workspace --bins

FROM debian:bookworm-slim
COPY --from=build /src/target/release/weir /src/target/release/weir-demo /
COPY --from=build /src/target/weir-filter.wasm /weir-filter.wasm
# Authorities for webhooks and metrics over TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/weir"]
