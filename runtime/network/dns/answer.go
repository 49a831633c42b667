package dns

import (
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// ttl is for how long an answer may be kept, in seconds. Docker's is 600, and clients that keep answers then ask a container
// which is no longer there.
const ttl = 5

// A question is what a message asks.
type question struct {
	header dnsmessage.Header
	dnsmessage.Question
}

// parse reads a message that asks one thing, and reports whether it is one.
func parse(message []byte) (q question, ok bool) {
	var p dnsmessage.Parser
	var err error
	if q.header, err = p.Start(message); err != nil || q.header.Response || q.header.OpCode != 0 {
		return q, false
	}
	q.Question, err = p.Question()
	return q, err == nil
}

// own is the answer for a name of the zone, and nil for another one.
func (s *Server) own(q question, limit int) []byte {
	if q.Class != dnsmessage.ClassINET {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	if q.Type == dnsmessage.TypePTR {
		address, ok := reversed(name)
		if !ok {
			return nil
		}
		target, ok := s.zone.Name(address)
		if !ok {
			return nil
		}
		n, err := dnsmessage.NewName(target + ".")
		if err != nil {
			return nil
		}
		return q.answer(dnsmessage.RCodeSuccess, []dnsmessage.ResourceBody{&dnsmessage.PTRResource{PTR: n}})
	}
	addresses, ok := s.zone.Addresses(name)
	if !ok {
		return nil
	}
	// A different one first each time, so that clients which take the first one share the work.
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	var bodies []dnsmessage.ResourceBody
	for _, a := range addresses {
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			bodies = append(bodies, &dnsmessage.AResource{A: a.As4()})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			bodies = append(bodies, &dnsmessage.AAAAResource{AAAA: a.As16()})
		}
	}
	// The name exists: with nothing of the type that is asked for, the answer is empty and no error, which would say that
	// there is nothing of another type either.
	answer := q.answer(dnsmessage.RCodeSuccess, bodies)
	for len(answer) > limit {
		bodies = bodies[:len(bodies)-1] // some do
		answer = q.answer(dnsmessage.RCodeSuccess, bodies)
	}
	return answer
}

// answer writes the answer to a question.
func (q question) answer(code dnsmessage.RCode, bodies []dnsmessage.ResourceBody) []byte {
	message := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: q.header.ID, Response: true, Authoritative: code == dnsmessage.RCodeSuccess, RCode: code,
			RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true,
		},
		Questions: []dnsmessage.Question{q.Question},
	}
	for _, b := range bodies {
		message.Answers = append(message.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: ttl}, Body: b,
		})
	}
	answer, err := message.Pack()
	if err != nil {
		return nil
	}
	return answer
}

// reversed is the address in a name as "4.3.2.1.in-addr.arpa", or with a digit for each half byte before "ip6.arpa"; and false if it is
// none.
func reversed(name string) (netip.Addr, bool) {
	if digits, found := strings.CutSuffix(name, ".ip6.arpa"); found {
		parts := strings.Split(digits, ".")
		slices.Reverse(parts)
		b, err := hex.DecodeString(strings.Join(parts, ""))
		if err != nil || len(b) != 16 || len(parts) != 32 {
			return netip.Addr{}, false
		}
		return netip.AddrFrom16([16]byte(b)), true
	}
	rest, found := strings.CutSuffix(name, ".in-addr.arpa")
	parts := strings.Split(rest, ".")
	if !found || len(parts) != 4 {
		return netip.Addr{}, false
	}
	var b [4]byte
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 8)
		if err != nil {
			return netip.Addr{}, false
		}
		b[3-i] = byte(n)
	}
	return netip.AddrFrom4(b), true
}
