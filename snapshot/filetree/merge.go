package filetree

// Merge joins two lists, each sorted by the name that its function gives: it calls fn for every name, in order, with what
// each list has under it, or nil. The first error ends it.
func Merge[A, B any](a []A, b []B, nameA func(*A) string, nameB func(*B) string, fn func(a *A, b *B) error) error {
	for len(a) > 0 || len(b) > 0 {
		var x *A
		var y *B
		switch {
		case len(b) == 0:
			x = &a[0]
		case len(a) == 0:
			y = &b[0]
		default:
			nx, ny := nameA(&a[0]), nameB(&b[0])
			if nx <= ny {
				x = &a[0]
			}
			if ny <= nx {
				y = &b[0]
			}
		}
		if err := fn(x, y); err != nil {
			return err
		}
		if x != nil {
			a = a[1:]
		}
		if y != nil {
			b = b[1:]
		}
	}
	return nil
}

// EntryName is the name of an Entry, for Merge.
func EntryName(e *Entry) string { return e.Name }
