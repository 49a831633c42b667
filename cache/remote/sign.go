package remote

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
)

// trailerSize is the algorithm, the key and the signature.
const trailerSize = 1 + len(keyID{}) + ed25519.SignatureSize

// algEd25519 is the only algorithm of signatures.
const algEd25519 = 1

// A keyID is the beginning of a public key's SHA-256. It names a key to be tried, and proves nothing.
type keyID [8]byte

func idOf(key ed25519.PublicKey) keyID {
	sum := sha256.Sum256(key)
	return keyID(sum[:])
}

// A Signer signs tables.
type Signer struct{ key ed25519.PrivateKey }

// public is the second half of the key (RFC 8032).
func (s *Signer) public() ed25519.PublicKey {
	return ed25519.PublicKey(s.key[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
}

// ReadSigner reads an ed25519 private key, PEM of PKCS #8, as `openssl genpkey -algorithm ed25519` writes it.
func ReadSigner(text []byte) (*Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("is no PEM; make a key with: openssl genpkey -algorithm ed25519")
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	if key, ok := any.(ed25519.PrivateKey); ok {
		return &Signer{key}, nil
	}
	return nil, errors.New("is not an ed25519 key; make one with: openssl genpkey -algorithm ed25519")
}

// Trust is the public keys that tables have to be signed by. Nil trusts everybody.
type Trust map[keyID]ed25519.PublicKey

// ReadTrust reads ed25519 public keys, PEM, as `openssl pkey -pubout` writes them, one or more.
func ReadTrust(text []byte) (Trust, error) {
	trust := Trust{}
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		any, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		key, ok := any.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("holds a %s that is not an ed25519 key", block.Type)
		}
		trust[idOf(key)] = key
	}
	if len(trust) == 0 {
		return nil, errors.New("holds no public key, PEM; write one with: openssl pkey -pubout")
	}
	return trust, nil
}

// With adds the key that one signs with oneself.
func (t Trust) With(s *Signer) Trust {
	if t != nil && s != nil {
		t[idOf(s.public())] = s.public()
	}
	return t
}

// signed is what a signature is over: the table, and what it is bound to. A signed table that is moved to another place or scope is
// signed by nobody.
func signed(table []byte, bound string) []byte {
	out := append([]byte("forge cache table\x00"), binary.LittleEndian.AppendUint64(nil, uint64(len(bound)))...)
	return append(append(out, bound...), table...)
}

// bind is what the tables of a scope of a place are bound to.
func bind(place, scope string) string { return fmt.Sprintf("%d:%s:%s", len(place), place, scope) }

// sign appends the trailer to a table.
func (s *Signer) sign(table []byte, bound string) []byte {
	return append(table, s.trailer(table, bound)...)
}

// trailer is the algorithm, the key and the signature.
func (s *Signer) trailer(text []byte, bound string) []byte {
	id := idOf(s.public())
	return append(append([]byte{algEd25519}, id[:]...), ed25519.Sign(s.key, signed(text, bound))...)
}

// Sign signs what is kept in the scope of a place under a name, such as a digest, in base64.
func (s *Signer) Sign(p *Place, scope, name, text string) string {
	return base64.StdEncoding.EncodeToString(s.trailer([]byte(text), p.bound(scope)+" "+name))
}

// ErrUntrusted is of a table that no trusted key has signed.
var ErrUntrusted = errors.New("no trusted key has signed it for this place and scope")

// check reports an error unless a table may be believed.
func (t Trust) check(raw []byte, bound string) error {
	if t == nil {
		return nil
	}
	if len(raw) < headerSize+trailerSize || binary.LittleEndian.Uint16(raw[6:])&flagSigned == 0 {
		return ErrUntrusted
	}
	body, trailer := raw[:len(raw)-trailerSize], raw[len(raw)-trailerSize:]
	return t.verify(body, trailer, bound)
}

// Check fails with ErrUntrusted unless a trusted key has made a signature of [Signer.Sign].
func (t Trust) Check(p *Place, scope, name, text, signature string) error {
	if t == nil {
		return nil
	}
	trailer, err := base64.StdEncoding.DecodeString(signature)
	if err != nil || len(trailer) != trailerSize {
		return ErrUntrusted
	}
	return t.verify([]byte(text), trailer, p.bound(scope)+" "+name)
}

func (t Trust) verify(text, trailer []byte, bound string) error {
	key, ok := t[keyID(trailer[1:])]
	if !ok || trailer[0] != algEd25519 || !ed25519.Verify(key, signed(text, bound), trailer[1+len(keyID{}):]) {
		return ErrUntrusted
	}
	return nil
}
