package container

import "testing"

func TestWithoutLoopback(t *testing.T) {
	for _, test := range []struct {
		in, want string
		servers  int
	}{
		{"nameserver 192.0.2.1\n", "nameserver 192.0.2.1\n", 1},
		{"# c\nsearch a b\nnameserver 127.0.0.53\nnameserver 192.0.2.1\noptions edns0", "# c\nsearch a b\nnameserver 192.0.2.1\noptions edns0", 1},
		{"nameserver ::1\nnameserver 127.0.0.1", "", 0},
		{"nameserver fe80::1%eth0\nnameserver 2001:db8::1\n", "nameserver 2001:db8::1\n", 1},
		{"nameserver\nnameserver x\n", "nameserver\n", 0},
		{"", "", 0},
	} {
		if got, servers := withoutLoopback(test.in); got != test.want || servers != test.servers {
			t.Errorf("%q = %q, %d, want %q, %d", test.in, got, servers, test.want, test.servers)
		}
	}
}
