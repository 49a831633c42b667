// Package web is what the HTTP clients of forge have in common: one [Client] with deadlines, retries within a [Budget],
// proxies and TLS; one rule about which address a server may send a client to (zone.go); one way to show an address without
// what it keeps secret ([Redact]).
//
// It knows no protocol above HTTP: registries, downloads and git have their own rooms.
package web
