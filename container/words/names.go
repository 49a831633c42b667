package words

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// CheckName says what is wrong with the name that a container is to have.
func CheckName(name string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	if len(name) < 2 || !strings.Contains(letters, name[:1]) || strings.Trim(name, letters+"_.-") != "" {
		//nolint:staticcheck // docker's words
		return fmt.Errorf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	return nil
}

// Name makes a name of two words that nobody has. It may ask more than once whether one is taken; after some that are, names
// get numbers.
func Name(taken func(name string) bool) string {
	first, second := strings.Fields(adjectives), strings.Fields(surnames)
	for n := 0; ; n++ {
		name := pick(first) + "_" + pick(second)
		if n >= 5 {
			name += strconv.Itoa(rand.IntN(n * n))
		}
		if !taken(name) {
			return name
		}
	}
}

func pick(words []string) string { return words[rand.IntN(len(words))] }

// The words of names: a character, and somebody to whom we owe what we know.
const (
	adjectives = `
	able airy ample apt balmy blithe bold brave breezy bright brisk calm candid careful cheerful chipper civil clear
	clever cosy crisp curious daring deft dewy eager earnest easy elated even fair fearless fine fleet fluent fond frank
	fresh frosty gallant genial gentle giddy glad golden grand handy hardy hearty helpful honest humble ideal jaunty jolly
	jovial keen kind lively loyal lucid lucky mellow merry mighty mild modest neat nimble noble patient placid playful
	plucky polite prompt proud quick quiet rapid ready robust rosy rugged serene sharp shiny silent sincere sleek smart
	snug sober solid spry steady sturdy sunny swift tender tidy tranquil trusty upbeat vivid warm wise witty zesty`
	surnames = `
	abel agnesi alder amdahl apgar bacon baez banneker bardeen bernoulli bessel bohr boole borg bose boyle brahe brooks
	carver cauchy cerf chandra codd conway corbato cray curie dantzig darwin diffie dijkstra dirac dyson edison elion
	engelbart erdos euclid euler faraday fermat feynman floyd fourier franklin galileo galois gauss germain godel goodall
	gosling hamming hardy hawking hertz hilbert hoare hooke hopper hubble huffman huygens hypatia jacobi joule kalman
	kelvin kepler kernighan khorana kilby knuth kovalevskaya lagrange lamport laplace leavitt leibniz lerner liskov
	lovelace lovell mach markov maxwell mccarthy mcclintock meitner mendel merkle milner mirzakhani moore morse napier
	naur newton noether ohm pascal pasteur pauling perlis perlman planck poincare postel ramanujan rhodes riemann ritchie
	rivest sagan salk sammet shannon stallman stokes tarjan tesla thompson torvalds turing vaughan volta wiles wilkes
	wirth wu yonath zuse`
)
