// Package analysis answers questions about decisions: what would have allowed a denied one, who may do something and by which policy, and what a
// proposed policy would change of what was asked in the past.
//
// It refuses to decide: every answer is found by having policy evaluate, and nothing here is in the way of a request but the look for the nearest
// allow after a denial.
package analysis
