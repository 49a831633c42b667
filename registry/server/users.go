package server

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/forge-build/forge/internal/durable"
)

// users are who may use the registry; nil is everybody.
type users struct {
	hashes  map[string][]byte
	maxCost int           // of the hashes: as long as that is every refusal
	slots   chan struct{} // for comparisons at one time: each keeps a core busy
	queue   chan struct{} // for requests that wait for a slot

	wrong failures

	mu    sync.Mutex // guards known
	key   [32]byte
	known map[string][32]byte // by name, a proof of the password that was right: bcrypt takes too long for each request
}

// maxQueue is how many requests may wait for a comparison of passwords.
const maxQueue = 64

// readUsers reads a file of htpasswd -B.
func readUsers(ctx context.Context, path string) (*users, error) {
	raw, err := durable.ReadInput(ctx, path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	u := &users{
		hashes: map[string][]byte{}, known: map[string][32]byte{},
		slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), queue: make(chan struct{}, maxQueue),
	}
	_, _ = rand.Read(u.key[:])
	n := 0
	for line := range strings.Lines(string(raw)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		cost, err := bcrypt.Cost([]byte(hash))
		if !ok || name == "" || err != nil {
			return nil, fmt.Errorf("%s:%d: want user:bcrypt-hash (made by htpasswd -B)", path, n)
		}
		u.hashes[name], u.maxCost = []byte(hash), max(u.maxCost, cost)
	}
	if len(u.hashes) == 0 {
		return nil, fmt.Errorf("%s: names no users", path)
	}
	return u, nil
}

// allow refuses a request of somebody who is not known with errUnauthorized, with errBusy if too many ask at once, and with errTooMany
// if a peer has been wrong too often. Who is known already is not kept waiting by what others at the same address do.
func (u *users) allow(r *http.Request) error {
	if u == nil {
		return nil
	}
	name, password, ok := r.BasicAuth()
	if !ok {
		return errUnauthorized
	}
	mac := hmac.New(sha256.New, u.key[:])
	fmt.Fprintf(mac, "%d %s %s", len(name), name, password)
	proof := [32]byte(mac.Sum(nil))
	u.mu.Lock()
	known := u.known[name] == proof
	u.mu.Unlock()
	if known {
		return nil
	}
	peer := peerOf(r.RemoteAddr)
	if u.wrong.tooMany(peer, time.Now()) {
		return errTooMany
	}
	release, err := u.slot(r.Context())
	if err != nil {
		return err
	}
	defer release()
	if !u.compare(name, password) {
		u.wrong.add(peer, time.Now())
		return errUnauthorized
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.known[name] = proof
	return nil
}

// slot waits for the right to compare passwords.
func (u *users) slot(ctx context.Context) (release func(), err error) {
	select {
	case u.queue <- struct{}{}:
	default:
		return nil, errBusy
	}
	defer func() { <-u.queue }()
	select {
	case u.slots <- struct{}{}:
		return func() { <-u.slots }, nil
	case <-ctx.Done():
		return nil, errBusy
	}
}

// compare reports whether the password is the user's. A refusal takes the same time whoever is named, and whether there is
// such a user: as long as the costliest hash takes.
//
// A password with a NUL is nobody's: bcrypt takes "x" and "x\x00x" for the same.
func (u *users) compare(name, password string) bool {
	hash, ok := u.hashes[name]
	if !ok {
		hash = noHash(u.maxCost)
	}
	right := bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil
	if ok && right && !strings.Contains(password, "\x00") {
		return true
	}
	for _, cost := range fillCosts(hash, u.maxCost) {
		_ = bcrypt.CompareHashAndPassword(noHash(cost), []byte(password))
	}
	return false
}

// fillCosts lists the costs of the comparisons that, after the one with hash, take as long as one of cost most: each step of
// bcrypt's cost doubles the time.
func fillCosts(hash []byte, most int) (costs []int) {
	cost, _ := bcrypt.Cost(hash) // which readUsers has read
	for ; cost < most; cost++ {
		costs = append(costs, cost)
	}
	return costs
}

// noHash is a hash that no password has, as far as anybody knows.
func noHash(cost int) []byte { return fmt.Appendf(nil, "$2b$%02d$%s", cost, strings.Repeat(".", 53)) }
