package server

import (
	"net/netip"
	"sync"
	"time"
)

// How many wrong logins one peer has in so much time, and of how many peers they are counted.
const (
	maxFailures  = 20
	failuresTime = time.Minute
	maxPeers     = 4096
)

// failures are the wrong logins of peers. Safe for concurrent use.
type failures struct {
	mu    sync.Mutex // guards peers
	peers map[netip.Addr]failed
}

// failed are those of one peer since a time.
type failed struct {
	since time.Time
	count int
}

// peerOf is who is counted together: an address, or a network of IPv6, of which one host has all the addresses it wants.
func peerOf(address string) netip.Addr {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Addr{} // those without an address are one
	}
	peer := at.Addr().Unmap()
	if peer.Is6() {
		if network, err := peer.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return peer
}

// tooMany reports whether a peer has to wait before its next login.
func (f *failures) tooMany(peer netip.Addr, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.peers[peer]
	return p.count >= maxFailures && now.Sub(p.since) < failuresTime
}

// add counts a wrong login.
func (f *failures) add(peer netip.Addr, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.peers == nil || len(f.peers) >= maxPeers {
		old := f.peers
		f.peers = map[netip.Addr]failed{}
		for peer, p := range old {
			if now.Sub(p.since) < failuresTime && len(f.peers) < maxPeers/2 {
				f.peers[peer] = p
			}
		}
	}
	p := f.peers[peer]
	if now.Sub(p.since) >= failuresTime {
		p = failed{since: now}
	}
	p.count++
	f.peers[peer] = p
}
