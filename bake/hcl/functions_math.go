package hcl

import (
	"errors"
	"math"
	"math/big"
)

// pow is a to the power b: exact where b is a whole number that is not negative.
func pow(a, b *big.Float) (any, error) {
	if n, exact := b.Int64(); exact == big.Exact && n >= 0 && n < maxExponent {
		out, base := integer(1), number().Set(a)
		for ; n > 0; n >>= 1 {
			if n&1 == 1 {
				out.Mul(out, base)
			}
			if _, err := within(out); err != nil {
				return nil, err
			}
			base.Mul(base, base)
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
