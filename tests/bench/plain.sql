\set buyer random(:first, :last)
\set seller random(:first, :last - 1)
\set seller case when :seller >= :buyer then :seller + 1 else :seller end
select bench_plain.pay(:buyer, :seller, 0.01);
