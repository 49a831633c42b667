package hcl

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
)

func codeFunctions() map[string]signature {
	return map[string]signature{
		"md5":          text(func(s string) string { h := md5.Sum([]byte(s)); return hex.EncodeToString(h[:]) }),  //nolint:gosec // asked for
		"sha1":         text(func(s string) string { h := sha1.Sum([]byte(s)); return hex.EncodeToString(h[:]) }), //nolint:gosec // asked for
		"sha256":       text(func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }),
		"sha512":       text(func(s string) string { h := sha512.Sum512([]byte(s)); return hex.EncodeToString(h[:]) }),
		"base64encode": text(func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }),
		"urlencode":    text(url.QueryEscape),
		"base64decode": texts(1, func(a []string) (any, error) {
			b, err := base64.StdEncoding.DecodeString(a[0])
			if err == nil && !utf8.Valid(b) {
				err = errors.New("what is decoded is not UTF-8")
			}
			return string(b), err
		}),
		"jsonencode": {1, 1, func(args []any) (any, error) {
			b, err := encode(args[0])
			return string(b), err
		}},
		"jsondecode": texts(1, func(a []string) (any, error) { return decode(a[0]) }),
		"csvdecode":  texts(1, csvDecode),
		"bcrypt":     {1, 2, hashPassword},
		"rsadecrypt": texts(2, rsaDecrypt),
		"uuidv4": {0, 0, func([]any) (any, error) {
			var b [16]byte
			_, err := rand.Read(b[:])
			return uuid(b[:], 4), err
		}},
		"uuidv5":      texts(2, uuidV5),
		"cidrhost":    {2, 2, cidrHost},
		"cidrnetmask": texts(1, cidrMask),
		"cidrsubnet":  {3, 3, cidrSubnet},
		"cidrsubnets": {2, -1, cidrSubnets},
		"semvercmp":   texts(2, func(a []string) (any, error) { return satisfies(a[0], a[1]) }),
	}
}

func csvDecode(a []string) (any, error) {
	if strings.Count(a[0], "\n") > maxList {
		return nil, fmt.Errorf("makes a list of more than %d elements", maxList)
	}
	rows, err := csv.NewReader(strings.NewReader(a[0])).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, errors.New("has no header")
	}
	out := []any{}
	for _, row := range rows[1:] {
		object := map[string]any{}
		for i, name := range rows[0] {
			object[name] = row[i]
		}
		out = append(out, object)
	}
	return out, nil
}

func hashPassword(args []any) (any, error) {
	s, err := String(args[0])
	if err != nil {
		return nil, err
	}
	cost := bcrypt.DefaultCost
	if len(args) > 1 {
		if cost, err = Int(args[1]); err != nil {
			return nil, err
		}
	}
	if cost > 15 {
		return nil, errors.New("a cost above 15 takes minutes")
	}
	h, err := bcrypt.GenerateFromPassword([]byte(s), cost)
	return string(h), err
}

func rsaDecrypt(a []string) (any, error) {
	data, err := base64.StdEncoding.DecodeString(a[0])
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(a[1]))
	if block == nil {
		return nil, errors.New("the key is not PEM")
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the key is no RSA private key of PKCS #1")
	}
	out, err := rsa.DecryptPKCS1v15(nil, key, data) //nolint:staticcheck // what the function is for
	return string(out), err
}

func uuid(b []byte, version byte) string {
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func uuidV5(a []string) (any, error) {
	space := map[string]string{
		"dns": "6ba7b8109dad11d180b400c04fd430c8", "url": "6ba7b8119dad11d180b400c04fd430c8",
		"oid": "6ba7b8129dad11d180b400c04fd430c8", "x500": "6ba7b8149dad11d180b400c04fd430c8",
	}[a[0]]
	if space == "" {
		space = strings.ReplaceAll(a[0], "-", "")
	}
	id, err := hex.DecodeString(space)
	if err != nil || len(id) != 16 {
		return nil, fmt.Errorf("%q is neither dns, url, oid, x500 nor a UUID", a[0])
	}
	h := sha1.Sum(append(id, a[1]...)) //nolint:gosec // RFC 9562
	return uuid(h[:16], 5), nil
}

// prefix reads a network.
func prefix(v any) (netip.Prefix, error) {
	s, err := String(v)
	if err != nil {
		return netip.Prefix{}, err
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is no network such as 10.0.0.0/8", s)
	}
	return p.Masked(), nil
}

// offset adds a number to an address.
func offset(a netip.Addr, n *big.Int) (netip.Addr, error) {
	sum := new(big.Int).Add(new(big.Int).SetBytes(a.AsSlice()), n)
	if sum.Sign() < 0 || sum.BitLen() > a.BitLen() {
		return a, errors.New("there is no such address")
	}
	out, _ := netip.AddrFromSlice(sum.FillBytes(make([]byte, a.BitLen()/8)))
	return out, nil
}

func cidrHost(args []any) (any, error) {
	p, err := prefix(args[0])
	if err != nil {
		return nil, err
	}
	n, err := Number(args[1])
	if err != nil {
		return nil, err
	}
	host, exact := n.Int(nil)
	size := new(big.Int).Lsh(big.NewInt(1), uint(p.Addr().BitLen()-p.Bits())) //nolint:gosec // at most 128
	if exact != big.Exact || host.CmpAbs(size) >= 0 && host.Sign() >= 0 || new(big.Int).Neg(host).Cmp(size) > 0 {
		return nil, fmt.Errorf("the network %s has no host %s", p, n.Text('f', -1))
	}
	if host.Sign() < 0 {
		host.Add(host, size)
	}
	a, err := offset(p.Addr(), host)
	return a.String(), err
}

func cidrMask(a []string) (any, error) {
	p, err := prefix(a[0])
	if err != nil {
		return nil, err
	}
	if !p.Addr().Is4() {
		return nil, errors.New("only networks of IPv4 have a mask")
	}
	m := ^uint32(0) << (32 - p.Bits())
	return netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}).String(), nil //nolint:gosec // each of 8 bits
}

// subnet is the n'th network of p whose prefix is so many bits longer.
func subnet(p netip.Prefix, bits int, n *big.Int) (netip.Prefix, error) {
	length := p.Bits() + bits
	if bits < 0 || length > p.Addr().BitLen() {
		return p, fmt.Errorf("the network %s cannot be divided by %d bits", p, bits)
	}
	if n.Sign() < 0 || n.BitLen() > bits {
		return p, fmt.Errorf("%d bits hold no number %s", bits, n)
	}
	a, err := offset(p.Addr(), new(big.Int).Lsh(n, uint(p.Addr().BitLen()-length))) //nolint:gosec // at most 128
	return netip.PrefixFrom(a, length), err
}

func cidrSubnet(args []any) (any, error) {
	p, err := prefix(args[0])
	if err != nil {
		return nil, err
	}
	bits, err := Int(args[1])
	if err != nil {
		return nil, err
	}
	n, err := Int(args[2])
	if err != nil {
		return nil, err
	}
	out, err := subnet(p, bits, big.NewInt(int64(n)))
	return out.String(), err
}

// cidrSubnets are networks one behind the other, each at the next place that it fits in.
func cidrSubnets(args []any) (any, error) {
	p, err := prefix(args[0])
	if err != nil {
		return nil, err
	}
	next := p.Addr()
	out := []any{}
	for i, v := range args[1:] {
		bits, err := Int(v)
		if err != nil {
			return nil, err
		}
		if bits < 1 || p.Bits()+bits > p.Addr().BitLen() {
			return nil, fmt.Errorf("the network %s cannot be divided by %d bits", p, bits)
		}
		one := netip.PrefixFrom(next, p.Bits()+bits).Masked()
		size := new(big.Int).Lsh(big.NewInt(1), uint(p.Addr().BitLen()-one.Bits())) //nolint:gosec // at most 128
		if one.Addr() != next {
			a, err := offset(one.Addr(), size)
			if err != nil {
				return nil, err
			}
			one = netip.PrefixFrom(a, one.Bits())
		}
		if !p.Contains(one.Addr()) {
			return nil, fmt.Errorf("the network %s has no room for the %d networks", p, len(args)-1)
		}
		out = append(out, one.String())
		if next, err = offset(one.Addr(), size); err != nil && i < len(args)-2 {
			return nil, err
		}
	}
	return out, nil
}
