package hcl

import (
	"errors"
	"math"
	"math/big"
)

// maxPower bounds how large a whole power may get, in bits.
const maxPower = 1 << 16

// pow is a to the power b: exact where b is a whole number that is not negative.
func pow(a, b *big.Float) (any, error) {
	if n, exact := b.Int64(); exact == big.Exact && n >= 0 && n < maxPower {
		out, base := integer(1), number().Set(a)
		for ; n > 0; n >>= 1 {
			if n&1 == 1 {
				out.Mul(out, base)
			}
			base.Mul(base, base)
			if e := out.MantExp(nil); e > maxPower || e < -maxPower {
				return nil, errors.New("is too large")
			}
		}
		return out, nil
	}
	x, _ := a.Float64()
	y, _ := b.Float64()
	return fromFloat(math.Pow(x, y))
}

func logarithm(a, base *big.Float) (any, error) {
	x, _ := a.Float64()
	y, _ := base.Float64()
	return fromFloat(math.Log(x) / math.Log(y))
}

func fromFloat(f float64) (any, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, errors.New("is no number")
	}
	return number().SetFloat64(f), nil
}
