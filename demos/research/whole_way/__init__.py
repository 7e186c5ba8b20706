"""The whole way: depth noise learned because the plan gets better, from trips in the true room back to the pixels."""
