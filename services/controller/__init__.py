"""Who may act: election, fence, switchover and the reasons for each, one controller a region."""
