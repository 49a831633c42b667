package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

// users are who may use the registry; nil is everybody.
type users struct {
	hashes map[string][]byte
	dummy  []byte // compared with for those we do not know, so that they take as long

	mu    sync.Mutex // guards known
	key   [32]byte
	known map[[32]byte]bool // passwords that were right: bcrypt takes too long to do it for each request
}

// readUsers reads a file of htpasswd -B.
func readUsers(path string) (*users, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	u := &users{hashes: map[string][]byte{}, known: map[[32]byte]bool{}}
	_, _ = rand.Read(u.key[:])
	n := 0
	for line := range strings.Lines(string(raw)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if _, err := bcrypt.Cost([]byte(hash)); !ok || name == "" || err != nil {
			return nil, fmt.Errorf("%s:%d: want user:bcrypt-hash (made by htpasswd -B)", path, n)
		}
		u.hashes[name], u.dummy = []byte(hash), []byte(hash)
	}
	if len(u.hashes) == 0 {
		return nil, fmt.Errorf("%s: names no users", path)
	}
	return u, nil
}

// allow tells who the request is from, and whether that is one of us.
func (u *users) allow(r *http.Request) (name string, ok bool) {
	if u == nil {
		return "", true
	}
	name, password, ok := r.BasicAuth()
	if !ok {
		return "", false
	}
	mac := hmac.New(sha256.New, u.key[:])
	fmt.Fprintf(mac, "%d %s %s", len(name), name, password)
	proof := [32]byte(mac.Sum(nil))
	u.mu.Lock()
	known := u.known[proof]
	u.mu.Unlock()
	if known {
		return name, true
	}
	hash, exists := u.hashes[name]
	if !exists {
		hash = u.dummy
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || !exists {
		return "", false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.known[proof] = true // no more than there are users
	return name, true
}
