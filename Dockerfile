# The image holds the binary and the CA roots, nothing else; it runs with no file mounted:
#
#   docker build --build-arg VERSION=$(git describe --tags --always) -t edge .
#   docker run --rm -p 8080:8080 -e OPENAI_API_KEY edge
FROM golang:1.26.8-bookworm AS build
WORKDIR /src
# Modules first: their layer lives until go.mod or go.sum changes.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /edge ./cmd/edge

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /edge /edge
USER 65532:65532
EXPOSE 8080
# scratch has no shell, so every command is in exec form.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/edge", "healthcheck"]
ENTRYPOINT ["/edge"]
