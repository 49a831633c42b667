package web

import (
	"context"
	"net"
	"net/http"
	"time"
)

// HTTP2 returns a transport that speaks HTTP/2 and nothing else: with TLS to https addresses, and without it, from the first byte, to http
// addresses. It asks nothing about where a connection may lead: that is for servers that the caller has named.
func HTTP2(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Transport {
	t := &http.Transport{
		DialContext:         dial,
		TLSHandshakeTimeout: 20 * time.Second,
		IdleConnTimeout:     5 * time.Minute,
		DisableCompression:  true,
		Protocols:           new(http.Protocols),
	}
	t.Protocols.SetHTTP2(true)
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}
