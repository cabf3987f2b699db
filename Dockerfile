# The controller's image: the binary /weir and the filter's module /weir-filter.wasm, and the demonstration's service /weir-demo,
# which manifests/examples/deployment.yaml releases. Nothing else is in it: no shell, no package manager, no user but a number.
#
#   docker build --tag weir:dev .
FROM rust:1.90-bookworm AS build
RUN rustup target add wasm32-unknown-unknown
WORKDIR /src
COPY . .
RUN filter/build && cargo build --locked --release --workspace --bins
# The programs, the libraries that they link at their places, and the authorities for webhooks and metrics over TLS.
RUN mkdir -p /image/etc/ssl/certs \
    && cp target/release/weir target/release/weir-demo target/weir-filter.wasm /image/ \
    && for program in weir weir-demo; do ldd "target/release/$program"; done | grep -o '/lib[^ ]*' | sort -u \
       | xargs cp --parents --dereference --target-directory=/image \
    && cp --dereference /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'hosts: files dns' > /image/etc/nsswitch.conf

FROM scratch
COPY --from=build /image /
USER 65532:65532
ENTRYPOINT ["/weir"]
