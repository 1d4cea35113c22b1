package identity

import "context"

// WriteUses writes down what was noted, as Run does once in a while.
func WriteUses(ctx context.Context, u *Uses) { u.write(ctx) }
