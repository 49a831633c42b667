package planner

import (
	"testing"

	"github.com/forge-build/forge/parser"
)

// twelve has twelve steps.
const twelve = `# syntax=docker/dockerfile:1
ARG VERSION=1.2
FROM img:${VERSION} AS build
ARG TARGETARCH
ENV CGO_ENABLED=0 GOARCH=$TARGETARCH
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/root/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/root/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go build -o /out/app ./cmd/app
FROM plain
RUN apk add --no-cache ca-certificates && adduser -D app
WORKDIR /app
COPY --from=build --chown=app /out/app /usr/local/bin/app
COPY <<EOF /etc/app.conf
listen = ":8080"
EOF
RUN mkdir -p /data && chown app /data
USER app
EXPOSE 8080
HEALTHCHECK CMD wget -qO- localhost:8080/health
VOLUME /data
ENTRYPOINT ["/usr/local/bin/app"]
CMD ["-v"]
`

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parser.Parse("Dockerfile", []byte(twelve), parser.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseAndPlan(b *testing.B) {
	b.ReportAllocs()
	opt := Options{Resolver: &images{}, BuildPlatform: amd64}
	for b.Loop() {
		f, err := parser.Parse("Dockerfile", []byte(twelve), parser.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Plan(b.Context(), f, opt); err != nil {
			b.Fatal(err)
		}
	}
}
