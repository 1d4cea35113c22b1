module carrel/test/sigv4

go 1.26.0

require (
	carrel v0.0.0
	github.com/aws/aws-sdk-go-v2 v1.48.0
)

require github.com/aws/smithy-go v1.28.9 // indirect

replace carrel => ../..
